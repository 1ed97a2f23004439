//! The single-machine installation of Storm's documents, with our binary and an unchanged `storm.yaml`.

use std::fs;

use anyhow::ensure;
use serde_json::Value;
use system_tests::cluster::{Cluster, claim_port, get_json};
use zookeeper_server::ZooKeeper;

use crate::run;

#[test]
fn storms_own_storm_yaml_gives_one_nimbus_one_supervisor_and_four_free_slots() {
    run(async || {
        let zookeeper = ZooKeeper::start()?;
        let mut cluster = Cluster::new(&[])?;
        let slots = [claim_port()?, claim_port()?, claim_port()?, claim_port()?];
        // As in the documents, but for ports that other tests may use.
        let yaml = format!(
            "########### These MUST be filled in for a storm configuration\n\
             storm.zookeeper.servers:\n    - \"127.0.0.1\"\nstorm.zookeeper.port: {}\n\
             nimbus.host: \"127.0.0.1\"\nstorm.local.dir: \"{}\"\n\
             supervisor.slots.ports:\n    - {}\n    - {}\n    - {}\n    - {}\n\
             worker.childopts: \"-Xmx768m\"\nnimbus.api.port: {}\nui.port: {}\n",
            crate::faults::port(&zookeeper)?,
            cluster.folder.join("storm-local").display(),
            slots[0].port,
            slots[1].port,
            slots[2].port,
            slots[3].port,
            cluster.api_port,
            cluster.ui_port,
        );
        for daemon in ["nimbus", "supervisor", "ui"] {
            cluster.add(daemon, &[daemon], 0)?;
            fs::write(cluster.folder.join(daemon).join("storm.yaml"), &yaml)?;
            cluster.daemon(daemon).start()?;
        }
        let ui = cluster.ui_port;
        let get = async |path: &str| get_json(ui, path).await;
        let summary = cluster
            .wait("the REST API shows four free slots", async |_| {
                let summary = get("/api/v1/cluster/summary").await.ok()?;
                (summary["slotsFree"] == 4).then_some(summary)
            })
            .await?;
        ensure!(summary["supervisors"] == 1 && summary["slotsTotal"] == 4 && summary["slotsUsed"] == 0, "{summary}");
        let nimbuses = get("/api/v1/nimbus/summary").await?;
        ensure!(nimbuses["nimbuses"].as_array().map(Vec::len) == Some(1), "{nimbuses}");
        ensure!(nimbuses["nimbuses"][0]["status"] == "Leader", "{nimbuses}");
        let configuration: Value = get("/api/v1/cluster/configuration").await?;
        ensure!(configuration["nimbus.host"] == "127.0.0.1", "{configuration}");
        let output = cluster.daemon("supervisor").output();
        ensure!(output.contains("worker.childopts"), "the option without effect is not named: {output}");
        Ok(())
    });
}
