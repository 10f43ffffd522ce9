//! Hosts of their own for processes: network namespaces that a bridge joins, and cables that can be
//! pulled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers the networks of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network of hosts on this machine; gone when dropped.
#[derive(Debug)]
pub struct Network {
    /// Unique on this machine and short: names of interfaces have at most 15 bytes.
    name: String,
    /// The first two bytes of its addresses.
    prefix: String,
    hosts: Vec<Host>,
}

/// A host of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its network namespace.
    pub namespace: String,
    /// Its address.
    pub address: String,
    /// Our end of its cable.
    cable: String,
}

impl Network {
    /// Says what keeps this process from making networks, if anything does.
    #[must_use]
    pub fn hindrance() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces are root's to make".into());
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cv{}n{number}", std::process::id());
        let made = ip(&["netns", "add", &name]);
        ip(&["netns", "del", &name]).ok();
        made.err()
    }

    /// Makes a network; this process is one of its hosts.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    #[must_use]
    pub fn new() -> Self {
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = format!("cv{pid}n{number}");
        let prefix = format!("10.{}.{}", 128 + (pid >> 8) % 100, (pid + number) % 256);
        let network = Self {
            name,
            prefix,
            hosts: Vec::new(),
        };
        let (bridge, own) = (&network.name, format!("{}.1/24", network.prefix));
        must(&["link", "add", bridge, "type", "bridge"]);
        must(&["address", "add", &own, "dev", bridge]);
        must(&["link", "set", bridge, "up"]);
        network
    }

    /// Adds a host.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn host(&mut self) -> Host {
        let number = self.hosts.len() + 2;
        let (bridge, namespace) = (&self.name, format!("{}h{number}", self.name));
        let (cable, inner) = (format!("{namespace}a"), format!("{namespace}b"));
        let address = format!("{}.{number}", self.prefix);
        must(&["netns", "add", &namespace]);
        must(&[
            "link", "add", &cable, "type", "veth", "peer", "name", &inner,
        ]);
        must(&["link", "set", &inner, "netns", &namespace]);
        must(&["link", "set", &cable, "master", bridge]);
        must(&["link", "set", &cable, "up"]);
        let within = |arguments: &[&str]| must(&[&["-n", &namespace], arguments].concat());
        let wide = format!("{address}/24");
        within(&["address", "add", &wide, "dev", &inner]);
        within(&["link", "set", &inner, "up"]);
        within(&["link", "set", "lo", "up"]);
        let host = Host {
            namespace,
            address,
            cable,
        };
        self.hosts.push(host.clone());
        host
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// Lets processes that are started on the host from now on find a name at an address; those that found
    /// it before find it there from now on.
    ///
    /// # Panics
    ///
    /// If that cannot be written.
    pub fn knows(&self, name: &str, address: &str) {
        let folder = self.names();
        std::fs::create_dir_all(&folder).expect("a folder of root's can be made");
        // In place: the file itself is what its processes see as /etc/hosts.
        let line = format!("127.0.0.1 localhost\n{address} {name}\n");
        std::fs::write(folder.join("hosts"), line).expect("a file of root's can be written");
    }

    /// Where `ip netns exec` finds what replaces files of /etc, see ip-netns(8).
    fn names(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.namespace)
    }

    /// Pulls the host's cable: nothing comes or goes, and nobody is told.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn cut(&self) {
        must(&["link", "set", &self.cable, "down"]);
    }

    /// Puts the cable back.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn mend(&self) {
        must(&["link", "set", &self.cable, "up"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            ip(&["netns", "del", &host.namespace]).ok();
            ip(&["link", "del", &host.cable]).ok();
            std::fs::remove_dir_all(host.names()).ok();
        }
        ip(&["link", "del", &self.name]).ok();
    }
}

fn must(arguments: &[&str]) {
    if let Err(why) = ip(arguments) {
        panic!("ip {}: {why}", arguments.join(" "));
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("the program 'ip' cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
