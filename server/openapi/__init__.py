"""What the API is, in OpenAPI's words and on a page: made from the schemas that requests meet."""
