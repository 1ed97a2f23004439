//! A call that does not return, on real threads.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seam::Seam;
use storm::fail::FailKind;
use storm::local_cluster::LocalCluster;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;

use crate::stage::*;

#[test]
fn the_roots_of_a_call_that_hangs_fail_while_others_go_on() {
    for workers in [1, 2] {
        let data = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let control_seam = control.block_on(async { Seam::system() });
        data.block_on(async {
            let seam = Seam::system();
            let (hung, calm) = (Feed::of(items(0..3)), Feed::open());
            let (release, released) = sync_channel::<()>(1);
            let released: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(released));
            let mut topology = Topology::builder("hang");
            topology.config("topology.message.timeout.secs", 0.3);
            let (one, two) = (hung.clone(), calm.clone());
            let a = topology.spout("a", move || one.spout()).add();
            let b = topology.spout("b", move || two.spout()).add();
            let hangs = move |_: &Context, _: Item, _: &mut Emitter<()>| {
                // Until the test lets go.
                let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
                Ok(())
            };
            topology.bolt("hangs", does(hangs)).shuffle(&a).add();
            let sink = |_: &Context, _: Item, _: &mut Emitter<()>| Ok(());
            topology.bolt("sink", does(sink)).shuffle(&b).add();
            let cluster = LocalCluster::builder(topology.build().unwrap()).workers(workers);
            let cluster = cluster.seam(seam.clone()).control(control_seam.clone()).start().await.unwrap();
            until(&seam, "all roots of the batch have failed", || hung.failed().len() == 3).await;
            for (_, reason) in hung.failed() {
                assert_eq!((reason.kind, reason.by.as_str()), (FailKind::TimedOut, "hangs"));
                assert!(reason.message.starts_with("a call has not returned for "), "{reason}");
            }
            for n in 0..20 {
                calm.push(Item { n });
                until(&seam, "the other component goes on", || calm.acked().len() as u64 == n + 1).await;
            }
            let errors = executor(&cluster, "hangs").errors;
            assert!(errors[0].message.starts_with("a call has not returned for "), "{errors:?}");
            drop(release);
            calm.close();
            ended(&cluster, &seam).await;
            assert_eq!((hung.acked().len(), hung.failed().len()), (0, 3));
            cluster.stop(Duration::ZERO).await;
        });
    }
}
