"""A project of somebody who installed sagabus. test_wheel.py checks it against the wheel; nothing here is run."""
