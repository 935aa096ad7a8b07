"""The reads and writes of the database, one function each, grouped by table or subject.

A function takes a `Connection` and ids or records, and returns records or plain values. It runs in the transaction of
its caller and neither begins nor commits one. Functions that lock rows say so. SQLite has a single writer and needs no
row locks.

`states` reads the states of single runs, `state_changes` is the feed of all state changes, and `history` counts runs by
state and interval.

Imports `db.query`, `db.sql` and the modules of `db`. Of the layers above, only `resolvers` calls these functions.
"""
