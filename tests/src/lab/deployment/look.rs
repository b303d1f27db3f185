//! What is seen of a running deployment: by its daemons, on its hosts, by a client.

use std::net::SocketAddr;
use std::time::Duration;

use super::{COMMAND_LIMIT, Deployment, LOOK_EVERY};
use crate::lab::clock::Deadline;
use crate::lab::network::INTERFACE;
use crate::lab::{LabError, client};

impl Deployment {
    /// `quorate status -o json` of a node; `None` where it does not answer.
    #[must_use]
    pub fn status(&self, node: &str) -> Option<serde_json::Value> {
        let finished = self.quorate(node, &["status", "-o", "json"]).ok()?;
        serde_json::from_str(&finished.stdout).ok()
    }

    /// The same without services: cheap however many there are.
    #[must_use]
    pub fn status_in_brief(&self, node: &str) -> Option<serde_json::Value> {
        let finished = self.quorate(node, &["status", "--brief", "-o", "json"]).ok()?;
        serde_json::from_str(&finished.stdout).ok()
    }

    /// The owner of a group as a node names it.
    #[must_use]
    pub fn owner(&self, node: &str, group: &str) -> Option<String> {
        let status = self.status_in_brief(node)?;
        let groups = status.get("groups")?.as_array()?;
        let group =
            groups.iter().find(|g| g.get("name").and_then(|n| n.as_str()) == Some(group))?;
        Some(group.get("owner")?.as_str()?.to_owned())
    }

    /// The Raft leader, as a node knows it.
    #[must_use]
    pub fn leader(&self, node: &str) -> Option<String> {
        Some(self.status_in_brief(node)?["cluster"]["leader"].as_str()?.to_owned())
    }

    /// Whether a host carries an address on its interface.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn carries(&self, host: &str, address: &str) -> Result<bool, LabError> {
        let show = format!("ip -o address show dev {INTERFACE}");
        let shown = self.network.namespace(host)?.run_ok(&show, COMMAND_LIMIT)?;
        Ok(shown.contains(&format!(" {address}/")))
    }

    /// The hosts of these that carry an address on their interface.
    ///
    /// # Errors
    /// When one can't be asked.
    pub fn carriers(&self, hosts: &[&str], address: &str) -> Result<Vec<String>, LabError> {
        let mut carriers = Vec::new();
        for host in hosts {
            if self.carries(host, address)? {
                carriers.push((*host).to_owned());
            }
        }
        Ok(carriers)
    }

    /// Asks for the page behind an address, from a host.
    ///
    /// # Errors
    /// When no page came in time.
    pub fn get(&self, from: &str, address: SocketAddr, wait: Duration) -> Result<String, LabError> {
        client::get(self.network.namespace(from)?, address, wait)
    }

    /// Waits until something holds; an error says that it never did, with the logs' ends.
    ///
    /// # Errors
    /// When it does not hold within the limit.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        holds: impl FnMut(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        self.wait_looking(what, limit, LOOK_EVERY, holds)
    }

    /// [`Self::wait_for`], with so long between two looks.
    ///
    /// # Errors
    /// When it does not hold within the limit.
    pub fn wait_looking(
        &self,
        what: &str,
        limit: Duration,
        every: Duration,
        mut holds: impl FnMut(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let deadline = Deadline::after(limit);
        while !holds(self)? {
            if deadline.passed() {
                return Err(LabError::Unreadable {
                    what: format!("{what}: not within {limit:?}; logs in {}", self.logs.display()),
                    text: self.ends_of_logs(),
                });
            }
            std::thread::sleep(every);
        }
        Ok(())
    }

    fn ends_of_logs(&self) -> String {
        let mut text = String::new();
        for name in self.nodes.keys() {
            let log = self.log(name).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.len().saturating_sub(15);
            text.push_str(&format!("--- {name}\n{}\n", lines[end..].join("\n")));
        }
        text
    }
}
