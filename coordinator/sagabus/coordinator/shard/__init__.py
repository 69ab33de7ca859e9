"""Between the topics and the core: records become inputs, and what is decided upon them becomes one transaction.

saga_processor   the shards of a process: acquired, turned, lost
batch            one turn: taken in, loaded, decided, committed
  intake           what is there for it; `reading` says what a record means, `parking` what has to be noticed
  present          the sagas that it may need
  starts           start requests
  delivery         all other inputs, to their sagas or wherever else they belong
  decisions        what has come of it
replaying        the work behind a turn: sagas with a long history come back in portions
memory           what a tenure knows: its sagas, `timers`, `early_requests`, `replays`, `unloaded`
loading          from rows to sagas; `definitions` are their code
retention        what is removed, and when
"""
