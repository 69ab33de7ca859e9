"""What a participant remembers of the commands it has carried out, and what it decides by it (P1 to P8)."""
