"""What a process needs to be a service, and what others see of it."""
