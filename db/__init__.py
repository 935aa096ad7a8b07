"""What Runyard remembers, and the only folder that knows SQL.

Here live the tables and their migrations, the records that rows become, one function for each statement, and the
engine that runs units of work. A *unit of work* is a plain function of a `Connection`: it reads and writes through
statements and returns what it found. The engine runs it whole, in one transaction, and nothing of it is seen by anybody
else until the transaction is on disk.

Promises: what a write has answered is durable; a read never waits for a write; a refusal by the database is told in our
words (`db.errors`), not in the driver's.

Imports nothing of the other layers. The floors above take words from here freely (`vocabulary`, `records`); verbs only
`resolvers` uses.
"""
