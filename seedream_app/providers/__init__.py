"""Who generates images: one module a provider, all behind `base.Provider`."""
