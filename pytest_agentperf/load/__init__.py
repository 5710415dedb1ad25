"""The load generator: agents over HTTP, in processes of their own."""
