//! More is offered than can be done.
