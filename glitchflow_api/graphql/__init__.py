"""GraphQL over the same data as the other routes: schema, resolvers, limits."""
