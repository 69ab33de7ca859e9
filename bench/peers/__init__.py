"""Other engines that pip can install, with the same order saga on the same PostgreSQL.

`dbos_orders` and `edda_orders` are programs for environments of their own (`environments`): nothing of them is among
what sagabus needs. Both run a saga's steps as functions of the process that decides: no bus, and no service beside it.
That is their usual form, and the cheapest. `measured` runs them, and `__main__` compares.
"""
