"""Everything that speaks to Kafka, both ways. Nothing is decided here: the pipeline decides.

In:

    intake.py      Intake: the parts below, put together
    survey.py      which partitions there are, and where each begins
    polling.py     keeps the poller running, in a process of its own; what it reads goes into the backlog
    poller.py      that process: reads and decodes
    parcels.py     how records pass from it to the service
    backlog.py     the queue between reading and preparing, with a bound
    taker.py       prepares the next batch while the writer commits the one before
    progress.py    how far each partition has been read, and made durable
    positions.py   an operator's decision to read a partition again

Out:

    publishing.py  keeps the publisher running, in a process of its own
    publisher.py   that process: changes, outcomes, alarms and dead letters, from the outbox
    redrive.py     sends dead letters to their topics again

Both:

    clients.py     how consumers and admin clients are made
    keeper.py      a program of ours in a process of its own, kept running, and the way back to the service
    topics.py      the topics, and how they are made
    metrics.py     what Prometheus can read of all this

A Kafka of our own, for development, tests and demonstrations:

    local.py       Apache Kafka as a child process
    jars.py        where its jars come from
    child.py       a process that never outlives this one
    command.py, redrive_command.py   the command line of `kafka up` and `redrive`
"""
