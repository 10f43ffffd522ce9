//! What an operator orders, and waits for.

use std::time::Duration;

use proto::internal::{CoordinatorRecord, DrainCoordinatorRequest, DrainRequest, MoveLeadRequest};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Shown;
use super::cluster::{Cluster, answered, unknown, within};
use crate::in_words;

/// Time between two looks at a process that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Orders the worker or coordinator of this name to end, and waits until its record is gone from the
/// store.
pub(super) async fn drain(cluster: &Cluster, name: &str, seconds: u64) -> Result<Shown, String> {
    let mut coordinators = cluster.coordinators.iter();
    let limit = Duration::from_secs(seconds);
    match (
        cluster.group_of(name),
        coordinators.find(|its| its.name == name),
    ) {
        (Some(_), Some(_)) => Err(format!(
            "'{name}' is the name of a worker and of a coordinator; end the one that is meant by SIGTERM"
        )),
        (Some(group), None) => drain_worker(cluster, &group, name, limit).await,
        (None, Some(coordinator)) => drain_coordinator(cluster, coordinator, limit).await,
        (None, None) => Err(cluster.nobody(name)),
    }
}

async fn drain_worker(
    cluster: &Cluster,
    group: &str,
    name: &str,
    limit: Duration,
) -> Result<Shown, String> {
    let mut lead = cluster.lead(group).await?;
    let order = DrainRequest {
        group: group.to_owned(),
        name: name.to_owned(),
    };
    let ordered = answered(group, within(lead.drain(order)).await)?;
    super::tell(&format!("worker '{name}' was ordered to end ..."));
    let (key, began) = (records::member_key(name), Instant::now());
    loop {
        let entry = cluster.store.get(&key).await.map_err(in_words)?;
        let record = entry.and_then(|entry| records::read_member(&key, &entry.value).ok());
        let registration = record.and_then(|record| record.registration);
        if registration.is_none_or(|its| its.incarnation != ordered.incarnation) {
            break;
        }
        look_again("worker", name, began, limit).await?;
    }
    Ok(Shown {
        text: format!("worker '{name}' of group '{group}' has ended\n"),
        json: json!({"name": name, "group": group, "incarnation": ordered.incarnation}),
    })
}

async fn drain_coordinator(
    cluster: &Cluster,
    meant: &CoordinatorRecord,
    limit: Duration,
) -> Result<Shown, String> {
    let (name, incarnation) = (meant.name.clone(), meant.incarnation);
    let mut coordinator = cluster.coordinator(meant).await?;
    let order = DrainCoordinatorRequest {
        name: name.clone(),
        incarnation,
    };
    let ordered = within(coordinator.drain_coordinator(order)).await;
    let ordered = ordered.map_err(|_| format!("coordinator '{name}' has not answered; look again"));
    ordered?.map_err(|status| status.message().to_owned())?;
    super::tell(&format!("coordinator '{name}' was ordered to end ..."));
    let (key, began) = (records::coordinator_key(&name), Instant::now());
    loop {
        match cluster.store.get(&key).await {
            Ok(entry) => {
                let read = |bytes: &[u8]| records::read_coordinator(&key, bytes).ok();
                let record = entry.and_then(|entry| read(&entry.value));
                if record.is_none_or(|its| its.incarnation != incarnation) {
                    break;
                }
            }
            // The store may have been in its memory.
            Err(_) if cluster.coordinator(meant).await.is_err() => break,
            Err(_) => {}
        }
        look_again("coordinator", &name, began, limit).await?;
    }
    Ok(Shown {
        text: format!("coordinator '{name}' has ended\n"),
        json: json!({"name": name, "incarnation": incarnation}),
    })
}

/// Waits for the next look at a process that was ordered to end, unless that took too long.
async fn look_again(what: &str, name: &str, began: Instant, limit: Duration) -> Result<(), String> {
    if began.elapsed() > limit {
        return Err(format!(
            "{what} '{name}' has not ended within {limit:?}; it goes on ending, look with 'conclave \
             admin members'"
        ));
    }
    sleep(LOOK_AGAIN).await;
    Ok(())
}

/// Hands the lead of a group over.
pub(super) async fn move_lead(
    cluster: &Cluster,
    group: &str,
    to: Option<&str>,
) -> Result<Shown, String> {
    cluster.meant(Some(group))?;
    let known = cluster.coordinators.iter().map(|its| its.name.as_str());
    if let Some(to) = to
        && !known.clone().any(|name| name == to)
    {
        return Err(unknown("coordinator", to, known));
    }
    let mut lead = cluster.lead(group).await?;
    let order = MoveLeadRequest {
        group: group.to_owned(),
        to: to.unwrap_or_default().to_owned(),
    };
    let moved = answered(group, within(lead.move_lead(order)).await)?;
    Ok(Shown {
        text: format!(
            "coordinator '{}' leads group '{group}' now, in term {}\n",
            moved.name, moved.term
        ),
        json: json!({"group": group, "lead": moved.name, "term": moved.term}),
    })
}
