"""Broadcasts: one letter to an audience, each contact exactly once.

    broadcasts.acts       what the API can do to one: create, send, pause, resume, cancel, duplicate, resend
    broadcasts.start      what is checked and frozen before the first copy
    broadcasts.feeder     the task that takes broadcasts from start to end, a slice of each in turn
    broadcasts.slices     copies of those whose turn it is, through the door into the queue, as fast as their sites have room
    broadcasts.render     copies made in a process of their own, so that a long mailing does not slow the mail
    broadcasts.tally      what became of the copies, from the events
    broadcasts.contest    A/B tests: who is in the sample, and which variant has won
    broadcasts.forecast   how long it will take
    broadcasts.telling    all of that as JSON, for the API, the dialects and the command line

What makes a crash, a pause or a second node harmless is in relay.store.broadcasts.ledger.
"""
