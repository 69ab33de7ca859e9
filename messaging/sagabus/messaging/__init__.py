"""How messages travel and take effect once: Kafka, outbox, relay, shard ownership, inbox, dead letters."""
