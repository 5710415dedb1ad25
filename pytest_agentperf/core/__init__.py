"""The rules of the measurement, pure: no pytest, asyncio, clock, files or sockets in here."""
