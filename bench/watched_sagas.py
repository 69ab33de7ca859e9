"""The shop's sagas, in a coordinator that writes down each callback of its loop that ran for long."""

from __future__ import annotations

from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.system.ordinary import loop_watch

__all__ = ["expense_approval", "order_processing"]

loop_watch.install_if_asked()
