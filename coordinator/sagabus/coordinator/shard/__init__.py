"""Between the topics and the core: what is read becomes arrivals, what is decided becomes one transaction.

`side` is the way of a batch; `reading` understands records, `memory` holds what a tenure knows, `deciding` offers the
arrivals to their sagas, `loading` brings sagas back from the store.
"""
