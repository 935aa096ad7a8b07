"""Control of queues: priorities, expiry, time limits and pauses."""
