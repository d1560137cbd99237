"""Makes this folder a package, which Python prefers to a plain folder of the same name."""
