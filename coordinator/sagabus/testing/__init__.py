"""Test a saga without a broker or a database."""
