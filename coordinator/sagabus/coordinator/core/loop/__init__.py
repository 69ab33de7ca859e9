"""The deterministic event loop of a saga's code: asyncio without clock, selector or chance (L1 to L12)."""
