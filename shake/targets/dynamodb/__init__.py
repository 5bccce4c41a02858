"""Any endpoint that speaks DynamoDB as a target."""
