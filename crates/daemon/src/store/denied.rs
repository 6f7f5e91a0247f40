//! Who was denied most, and what they asked for. What was done and what only would have been is told apart by the text of each event,
//! which is a long way: all that is asked of services takes one way through them.

use std::cmp::Reverse;
use std::net::IpAddr;

use policy::Timestamp;

use super::query::{DECIDED_BY_POLICY, ENFORCED, Reader};
use super::{StoreError, nanos};
use crate::api::TopDenied;

/// How many are named.
const MOST: usize = 20;

/// Packets of one kind.
struct Denied {
    enforced: bool,
    /// Not by a ban or a feed, which say nothing about the service that was asked for; `None` where nobody knows.
    by_policy: Option<bool>,
    service: Option<Service>,
    packets: u64,
}

/// Protocol and port.
type Service = (u8, Option<u16>);

impl Reader {
    /// What was denied most from `since` on, by sources that are meant and by service; and what would have been.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn top_denied(
        &self,
        since: Timestamp,
        is_meant: impl Fn(IpAddr) -> bool,
    ) -> Result<(TopDenied, TopDenied), StoreError> {
        let denied = self.denied_since(since)?;
        let top = |enforced| {
            let of_these: Vec<&Denied> = denied
                .iter()
                .filter(|denied| denied.enforced == enforced)
                .collect();
            if of_these.is_empty() {
                return Ok(TopDenied::default());
            }
            let top_sources = self.top_sources(since, enforced, &is_meant)?;
            Ok(TopDenied {
                top_sources,
                ..by_service(&of_these)
            })
        };
        Ok((top(true)?, top(false)?))
    }

    /// All that was denied from `since` on, counted by service.
    fn denied_since(&self, since: Timestamp) -> Result<Vec<Denied>, StoreError> {
        let sql = format!(
            "SELECT {ENFORCED}, {DECIDED_BY_POLICY}, proto, port, count(*) FROM events WHERE kind = 'drop' AND at >= ?
             GROUP BY 1, 2, 3, 4"
        );
        self.rows(&sql, vec![nanos(since).into()], |row| {
            let protocol: Option<u8> = row.get(2)?;
            let port: Option<u16> = row.get(3)?;
            Ok(Denied {
                enforced: row.get(0)?,
                by_policy: row.get(1)?,
                service: protocol.map(|protocol| (protocol, port)),
                packets: row.get::<_, i64>(4)? as u64,
            })
        })
    }

    /// Sources with most denied packets from `since` on, of those that are meant.
    fn top_sources(
        &self,
        since: Timestamp,
        enforced: bool,
        is_meant: &impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = format!(
            "SELECT src, count(*) FROM events WHERE kind = 'drop' AND at >= ? AND {ENFORCED} = ? AND src IS NOT NULL
             GROUP BY src ORDER BY 2 DESC LIMIT 1000"
        );
        let values = vec![nanos(since).into(), enforced.into()];
        let sources = self.rows(&sql, values, |row| {
            let key = u128::from_be_bytes(row.get::<_, [u8; 16]>(0)?);
            Ok((policy::key_address(key), row.get::<_, i64>(1)? as u64))
        })?;
        Ok(sources
            .into_iter()
            .filter(|(address, _)| is_meant(*address))
            .take(MOST)
            .map(|(address, count)| (address.to_string(), count))
            .collect())
    }
}

/// All of it but the sources.
fn by_service(denied: &[&Denied]) -> TopDenied {
    let of_policy = |wanted| move |denied: &&&Denied| denied.by_policy == Some(wanted);
    let mut services: Vec<(Service, u64)> = denied
        .iter()
        .filter(of_policy(true))
        .filter_map(|denied| Some((denied.service?, denied.packets)))
        .collect();
    services.sort_unstable_by_key(|&(service, packets)| (Reverse(packets), service));
    let shut_out = denied.iter().filter(of_policy(false));
    TopDenied {
        top_sources: Vec::new(),
        denied_ports: services.len() as u64,
        denied_port_packets: services.iter().map(|(_, packets)| packets).sum(),
        shut_out: shut_out.map(|denied| denied.packets).sum(),
        top_ports: services
            .into_iter()
            .take(MOST)
            .map(|(service, packets)| (name(service), packets))
            .collect(),
    }
}

/// `tcp/22`, or `icmp` where there is no port.
fn name((protocol, port): Service) -> String {
    let name = policy::protocol::name(protocol).map_or_else(|| protocol.to_string(), str::to_owned);
    port.map_or_else(|| name.clone(), |port| format!("{name}/{port}"))
}
