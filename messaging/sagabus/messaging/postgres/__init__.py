"""PostgreSQL: transactions, and the tables that both sides have."""
