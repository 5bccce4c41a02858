"""shake moves Amazon DynamoDB tables into MongoDB: a full copy, then every change, by a farm."""

__version__ = "0.9.0"
