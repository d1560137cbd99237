"""Makes this folder a package, which Python prefers to another one of the same name."""
