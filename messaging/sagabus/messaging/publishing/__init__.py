"""What is to be published, from the transaction that it follows from to its acknowledgement; dead letters too."""
