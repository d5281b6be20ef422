"""A reminder service: whoever asks is reminded in time, may change the time, and may call it off.

The broker keeps what waits; this program may be killed and started again at any moment, and keeps nothing.

Needs a broker of Mainspring: `mainspring serve --memory`, at MAINSPRING_BOOTSTRAP.
"""

from datetime import timedelta

import mainspring as ms

TOPIC = "reminders"


def remind(producer: ms.Producer, who: str, what: str, after: timedelta) -> ms.ScheduleId:
    """Has somebody reminded after a while. The same reminder again takes the place of the one that waits."""
    sent = producer.send(TOPIC, what.encode(), who.encode(), delay=after, id=f"{who}: {what}")
    handle = sent.result(timeout=30).schedule_id
    assert handle is not None
    return handle


def main() -> None:
    with ms.Admin() as admin, ms.Producer() as producer:
        admin.create_topic(TOPIC, config={"mainspring.features": "schedule"}, exist_ok=True)
        remind(producer, "ada", "stand up", timedelta(seconds=1))
        tea = remind(producer, "bob", "fetch the tea", timedelta(minutes=4))
        cake = remind(producer, "bob", "take the cake out", timedelta(minutes=40))
        print(len(admin.scheduled(TOPIC, before="+1h")), "reminders wait")

        admin.reschedule(tea, delay=0.5)
        producer.cancel(cake)

        with ms.Consumer(topics=TOPIC, group="bell", start="earliest") as consumer:
            for rung, message in enumerate(consumer, start=1):
                print(f"{(message.key or b'').decode()}: {(message.value or b'').decode()}")
                if rung == 2:
                    break
        print(len(admin.scheduled(TOPIC)), "reminders wait")


if __name__ == "__main__":
    main()
