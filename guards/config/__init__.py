"""The config of a gateway: its keys, the plug-ins that it may name, and the reading of its YAML file."""
