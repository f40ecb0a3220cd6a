"""One channel, as a pure state machine. Spec chapters 6 and 7.

`state` is what a channel knows, `transitions` the table of legal messages, `effects` what a step
asks its caller to do, `payments`, `reestablish`, `closing` and `withdrawals` the rules, and
`channel` the step that ties them together.
"""
