//! The discovery service: which subsystems a host can reach, and how (section 5.16.1.23).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U64};

use super::controller::Controller;
use super::target::{ListenAddress, Listener, Referral, Target};
use super::transport::{ADMIN_QUEUE_ENTRIES, TransportKind};
use crate::nvme::spec::log::{
    DiscoveryEntry, DiscoveryLogHeader, adrfam, cntlid, eflags, subtype, treq, trtype,
};
use crate::nvme::spec::text;

/// The discovery log page for the host of a discovery controller.
pub(in crate::nvmf) fn log_page(target: &Target, controller: &Controller) -> Vec<u8> {
    // The generation is read first: what changes meanwhile makes the host read again.
    let generation = target.generation();
    let entries = entries(target, controller);
    let header = DiscoveryLogHeader {
        genctr: U64::new(generation),
        numrec: U64::new(entries.len() as u64),
        ..DiscoveryLogHeader::default()
    };
    let mut page = header.as_bytes().to_vec();
    page.extend(entries.iter().flat_map(|entry| entry.as_bytes()));
    page
}

fn entries(target: &Target, controller: &Controller) -> Vec<DiscoveryEntry> {
    let (host, local) = (&controller.host().nqn, controller.info().local.ip());
    let mut entries = Vec::new();
    // The subsystem that answers, through the listener that the host knows already.
    if let Some(listener) = target.listener(controller.listener()) {
        let nqn = target.discovery().nqn().as_str();
        let mut entry = of_listener(target, &listener, nqn, local);
        entry.subtype = subtype::CURRENT;
        entry.eflags.set(eflags::EXPLICIT_PERSISTENT | eflags::DUPLICATE);
        entries.push(entry);
    }
    for subsystem in target.subsystems() {
        if !subsystem.allows_host(host) {
            continue;
        }
        for one in subsystem.listeners() {
            let nqn = subsystem.nqn().as_str();
            entries.push(of_listener(target, &one.listener, nqn, local));
        }
    }
    entries.extend(target.referrals().iter().map(of_referral));
    entries
}

/// A subsystem behind a listener. Of one that listens on every address, the host is told the
/// address at which it has reached this target.
fn of_listener(
    target: &Target,
    listener: &Arc<Listener>,
    nqn: &str,
    local: IpAddr,
) -> DiscoveryEntry {
    let ListenAddress { transport, mut address } = listener.address();
    if address.ip().is_unspecified() && (address.is_ipv6() || local.is_ipv4()) {
        address.set_ip(local.to_canonical());
    }
    let mut entry = entry(transport, address, nqn);
    entry.portid.set(u16::try_from(listener.id().0).unwrap_or(u16::MAX));
    // Not `NOT_REQUIRED`: common hosts set up TLS when they read that word at all.
    entry.treq = treq::NOT_SPECIFIED;
    let entries = target.transport(transport).map(|one| one.admin_queue_entries());
    entry.asqsz.set(entries.unwrap_or(ADMIN_QUEUE_ENTRIES));
    entry
}

fn of_referral(referral: &Referral) -> DiscoveryEntry {
    let ListenAddress { transport, address } = referral.address;
    let mut entry = entry(transport, address, referral.nqn.as_str());
    entry.subtype = subtype::REFERRAL;
    entry.treq = if referral.secure_channel { treq::REQUIRED } else { treq::NOT_SPECIFIED };
    entry.asqsz.set(ADMIN_QUEUE_ENTRIES);
    entry
}

fn entry(transport: TransportKind, address: SocketAddr, nqn: &str) -> DiscoveryEntry {
    let TransportKind::Tcp = transport;
    let mut entry = DiscoveryEntry {
        trtype: trtype::TCP,
        adrfam: if address.is_ipv4() { adrfam::IPV4 } else { adrfam::IPV6 },
        subtype: subtype::NVM,
        cntlid: U16::new(cntlid::DYNAMIC),
        ..DiscoveryEntry::default()
    };
    text::set_padded(&mut entry.trsvcid, &address.port().to_string());
    text::set_padded(&mut entry.traddr, &address.ip().to_string());
    text::set_terminated(&mut entry.subnqn, nqn);
    entry
}
