"""Kafka: the clients, what is read from it, and what is published to it."""
