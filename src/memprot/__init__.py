"""Linux memory protection in Python: the public face."""
