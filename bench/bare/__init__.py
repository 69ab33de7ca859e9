"""A bare engine: the least that an order saga with the same records and rows can cost in Python. A yardstick.

It keeps a history, an outbox and an inbox, commits each batch in one transaction and publishes after the commit, as the
product does. It has no recovery, no retries, no undo, no timers, no checks of what comes in, and no second process. So
it says what Kafka, PostgreSQL and the interpreter cost, and the distance to it what the guarantees cost.

`engine` decides, `participant` answers, `messages` are the models, `records` the topics and headers, `tables` the rows.
`yardstick` starts them for a measurement. Nothing here imports the product.
"""
