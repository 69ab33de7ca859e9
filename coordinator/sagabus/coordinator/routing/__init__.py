"""Outside topics lead to sagas: their events become requests, once each, in order per key (H6)."""
