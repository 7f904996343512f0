"""Data sets as TFRecords: schema, converters, and the factory that finds them by name."""
