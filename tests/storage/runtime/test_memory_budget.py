"""The memory budget that large responses share."""

from db.runtime.memory_budget import UNCOUNTED_BYTES, MemoryReservation, ReadBudget, SharedMemoryBudget


def reservations(count: int, *, limit: int) -> list[MemoryReservation]:
    budget = SharedMemoryBudget(limit)
    return [MemoryReservation(budget, can_be_refused=True) for _ in range(count)]


def test_small_reads_are_not_counted() -> None:
    first, second = reservations(2, limit=UNCOUNTED_BYTES)
    assert ReadBudget(10 * UNCOUNTED_BYTES, first).consume(2 * UNCOUNTED_BYTES)

    assert ReadBudget(10 * UNCOUNTED_BYTES, second).consume(UNCOUNTED_BYTES)
    assert not ReadBudget(10 * UNCOUNTED_BYTES, second).consume(UNCOUNTED_BYTES + 1)


def test_when_the_budget_is_exhausted_the_first_operation_continues() -> None:
    first, second = reservations(2, limit=4 * UNCOUNTED_BYTES)
    budgets = [ReadBudget(10 * UNCOUNTED_BYTES, each) for each in (first, second)]

    consumed = [each.consume(2 * UNCOUNTED_BYTES) for each in budgets]
    consumed += [each.consume(2 * UNCOUNTED_BYTES) for each in budgets]

    assert consumed == [True, True, True, False]


def test_a_released_reservation_frees_its_bytes() -> None:
    first, second, third = reservations(3, limit=2 * UNCOUNTED_BYTES)
    assert first.reserve(UNCOUNTED_BYTES)
    assert second.reserve(UNCOUNTED_BYTES)
    assert not third.reserve(UNCOUNTED_BYTES)

    third.release()
    second.release()
    second.release()

    fourth = MemoryReservation(first._budget, can_be_refused=True)
    assert fourth.reserve(UNCOUNTED_BYTES)
    assert not fourth.reserve(1)


def test_a_mutation_is_counted_but_never_refused() -> None:
    budget = SharedMemoryBudget(UNCOUNTED_BYTES)
    mutation, query = MemoryReservation(budget, can_be_refused=False), MemoryReservation(budget, can_be_refused=True)

    assert mutation.reserve(3 * UNCOUNTED_BYTES)
    assert not query.reserve(1)


def test_a_separate_limit_does_not_consume_the_read_budget() -> None:
    read_budget = ReadBudget(10)

    with read_budget.limited_to(20):
        assert not read_budget.consume(11)
    with read_budget.limited_to(None):
        assert read_budget.consume(100)

    assert read_budget.consume(10)
    assert not read_budget.consume(1)


def test_a_released_reservation_reserves_no_more() -> None:
    (reservation,) = reservations(1, limit=UNCOUNTED_BYTES)
    reservation.release()

    assert not reservation.reserve(1)
    assert MemoryReservation(reservation._budget, can_be_refused=True).reserve(UNCOUNTED_BYTES)
