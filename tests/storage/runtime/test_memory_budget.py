"""What large answers take of the room for all of them."""

from db.runtime.memory_budget import SMALL, Allowance, Crowd, Share


def shares(count: int, *, room: int) -> list[Share]:
    crowd = Crowd(room)
    return [Share(crowd, gives_way=True) for _ in range(count)]


def test_what_is_small_takes_no_room() -> None:
    first, second = shares(2, room=SMALL)
    assert Allowance(10 * SMALL, first).take(2 * SMALL)

    assert Allowance(10 * SMALL, second).take(SMALL)
    assert not Allowance(10 * SMALL, second).take(SMALL + 1)


def test_of_too_many_the_first_goes_on() -> None:
    first, second = shares(2, room=4 * SMALL)
    allowances = [Allowance(10 * SMALL, each) for each in (first, second)]

    taken = [each.take(2 * SMALL) for each in allowances]
    taken += [each.take(2 * SMALL) for each in allowances]

    assert taken == [True, True, True, False]


def test_what_has_ended_makes_room() -> None:
    first, second, third = shares(3, room=2 * SMALL)
    assert first.take(SMALL)
    assert second.take(SMALL)
    assert not third.take(SMALL)

    third.end()
    second.end()
    second.end()

    fourth = Share(first._crowd, gives_way=True)
    assert fourth.take(SMALL)
    assert not fourth.take(1)


def test_what_has_to_be_answered_is_counted_and_not_refused() -> None:
    crowd = Crowd(SMALL)
    mutation, query = Share(crowd, gives_way=False), Share(crowd, gives_way=True)

    assert mutation.take(3 * SMALL)
    assert not query.take(1)


def test_what_is_read_instead_takes_nothing_from_what_may_be_read() -> None:
    allowance = Allowance(10)

    with allowance.instead(20):
        assert not allowance.take(11)
    with allowance.instead(None):
        assert allowance.take(100)

    assert allowance.take(10)
    assert not allowance.take(1)


def test_who_has_ended_takes_no_more() -> None:
    (share,) = shares(1, room=SMALL)
    share.end()

    assert not share.take(1)
    assert Share(share._crowd, gives_way=True).take(SMALL)
