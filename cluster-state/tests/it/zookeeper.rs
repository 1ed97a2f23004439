//! What is special to ZooKeeper.
