"""What a client can say, and how answers are worded.

Here live the GraphQL types, inputs and root fields, how a document is prepared and executed, and the one place where
refusals and faults become GraphQL errors. A root field parses its arguments, calls one resolver and returns its record;
the types read a record's attributes as they are.

Promises: every name here is described for a person in GraphiQL; the printed contract (`schema.graphql`) is current; no
client sees a traceback. Imports `resolvers`, and of `db` the words alone (`vocabulary`, `records`).
"""
