"""Images from a prompt: asks a provider, and keeps what it makes like any upload."""
