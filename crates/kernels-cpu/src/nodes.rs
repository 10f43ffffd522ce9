//! Memory nodes: parts of a machine whose cores read their own memory faster than that of others.

use std::path::Path;
use std::{fs, io};

use crate::cores::Cores;

/// Where Linux tells of them: its Documentation/ABI/stable/sysfs-devices-node.
const NODES: &str = "/sys/devices/system/node";

/// Lists the cores that this process may use, those of each memory node together; one entry where the system does
/// not tell of nodes.
///
/// # Errors
///
/// If the system does not say which cores this process may use.
pub fn memory_nodes() -> io::Result<Vec<Cores>> {
    let allowed = Cores::of_this_thread()?;
    Ok(nodes_in(Path::new(NODES), &allowed).unwrap_or_else(|| vec![allowed]))
}

/// The same from a folder; `None` where it leaves out any of the cores.
fn nodes_in(folder: &Path, allowed: &Cores) -> Option<Vec<Cores>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir(folder).ok()? {
        let name = entry.ok()?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node"));
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
            continue;
        };
        // That of a node which has memory alone is empty.
        let list = fs::read_to_string(folder.join(&name).join("cpulist")).ok()?;
        let Ok(cores) = list.trim().parse::<Cores>() else {
            continue;
        };
        nodes.extend(cores.among(allowed).map(|cores| (number, cores)));
    }
    nodes.sort_by_key(|(number, _)| *number);
    let nodes: Vec<Cores> = nodes.into_iter().map(|(_, cores)| cores).collect();
    let listed: usize = nodes.iter().map(|cores| cores.list().len()).sum();
    (listed == allowed.list().len()).then_some(nodes)
}

/// Shares the cores of nodes out, as many to each of so many workers and none to workers of two nodes, in turn of the
/// nodes; `None` where that cannot be done.
#[must_use]
pub fn share_nodes(nodes: &[Cores], workers: usize) -> Option<Vec<Cores>> {
    let of_node = workers.checked_div(nodes.len())?;
    let alike = nodes
        .windows(2)
        .all(|two| two[0].list().len() == two[1].list().len());
    if !alike || of_node * nodes.len() != workers {
        return None;
    }
    let shares: Option<Vec<_>> = nodes.iter().map(|cores| cores.parts(of_node)).collect();
    Some(shares?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as Linux has it, of nodes with these cores.
    fn folder(name: &str, nodes: &[&str]) -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("conclave-nodes-{name}-{}", std::process::id()));
        for (index, cores) in nodes.iter().enumerate() {
            let node = folder.join(format!("node{index}"));
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("cpulist"), format!("{cores}\n")).unwrap();
        }
        fs::create_dir_all(folder.join("power")).unwrap();
        fs::write(folder.join("online"), "0-1\n").unwrap();
        folder
    }

    fn found(name: &str, nodes: &[&str], allowed: &str) -> Option<Vec<String>> {
        let folder = folder(name, nodes);
        let found = nodes_in(&folder, &allowed.parse().unwrap());
        fs::remove_dir_all(folder).unwrap();
        found.map(|nodes| nodes.iter().map(Cores::to_string).collect())
    }

    #[test]
    fn cores_are_told_by_their_nodes() {
        let two = ["0-3,8-11", "4-7,12-15"];
        let all = found("all", &two, "0-15");
        assert_eq!(all, Some(vec!["0-3,8-11".into(), "4-7,12-15".into()]));
        // A process that may use some of them; of the second node none.
        assert_eq!(
            found("some", &two, "2-3,9,14"),
            Some(vec!["2-3,9".into(), "14".into()])
        );
        assert_eq!(found("one", &two, "0-1"), Some(vec!["0-1".into()]));
        // A node that has memory alone, and more nodes than nine.
        let many = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", ""];
        assert_eq!(
            found("many", &many, "0-10").map(|nodes| nodes[10].clone()),
            Some("10".into())
        );
        // A core of none, and a system without nodes.
        assert_eq!(found("less", &["0-1"], "0-2"), None);
        assert_eq!(found("none", &[], "0"), None);
        assert_eq!(
            nodes_in(Path::new("/no/such/folder"), &"0".parse().unwrap()),
            None
        );
    }

    #[test]
    fn this_machine_has_a_node() {
        let listed: usize = memory_nodes()
            .unwrap()
            .iter()
            .map(|cores| cores.list().len())
            .sum();
        assert_eq!(listed, Cores::of_this_thread().unwrap().list().len());
    }

    #[test]
    fn no_worker_is_of_two_nodes() {
        let nodes: Vec<Cores> = ["0-3", "4-7"]
            .iter()
            .map(|list| list.parse().unwrap())
            .collect();
        let told = |workers| {
            let shares = share_nodes(&nodes, workers)?;
            Some(
                shares
                    .iter()
                    .map(Cores::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(told(2).as_deref(), Some("0-3 4-7"));
        assert_eq!(told(4).as_deref(), Some("0-1 2-3 4-5 6-7"));
        for workers in [0, 1, 3, 6, 16] {
            assert_eq!(told(workers), None, "{workers}");
        }
        let uneven: Vec<Cores> = ["0-3", "4-5"]
            .iter()
            .map(|list| list.parse().unwrap())
            .collect();
        assert_eq!(share_nodes(&uneven, 2), None);
        assert_eq!(share_nodes(&[], 2), None);
    }
}
