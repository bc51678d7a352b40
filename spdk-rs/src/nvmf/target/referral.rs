//! Referrals: discovery services elsewhere that hosts are pointed to.

use super::{ListenAddress, NvmfError, Target};
use crate::nvmf::subsystem::Nqn;

/// Another discovery service, as the discovery log names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referral {
    /// Where it is.
    pub address: ListenAddress,
    /// Its subsystem; the well-known discovery name as a rule.
    pub nqn: Nqn,
    /// Whether it has to be reached through a secure channel.
    pub secure_channel: bool,
}

impl Referral {
    fn same_place(&self, other: &Self) -> bool {
        self.address == other.address && self.nqn == other.nqn
    }
}

impl Target {
    /// The referrals, in the order they were added.
    #[must_use]
    pub fn referrals(&self) -> Vec<Referral> {
        self.state.lock().referrals.clone()
    }

    /// Adds a referral and tells connected discovery controllers.
    ///
    /// # Errors
    /// [`NvmfError::Exists`] when there is one to the same place.
    pub async fn add_referral(&self, referral: Referral) -> Result<(), NvmfError> {
        {
            let referrals = &mut self.state.lock().referrals;
            if referrals.iter().any(|one| one.same_place(&referral)) {
                return Err(NvmfError::exists("referral to", referral.address));
            }
            referrals.push(referral);
        }
        self.discovery_changed(None).await;
        Ok(())
    }

    /// Removes the referral to a subsystem at an address and tells connected discovery
    /// controllers.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`].
    pub async fn remove_referral(
        &self,
        address: ListenAddress,
        nqn: &Nqn,
    ) -> Result<(), NvmfError> {
        {
            let referrals = &mut self.state.lock().referrals;
            let found = referrals.iter().position(|one| one.address == address && one.nqn == *nqn);
            let found = found.ok_or_else(|| NvmfError::not_found("referral to", address))?;
            referrals.remove(found);
        }
        self.discovery_changed(None).await;
        Ok(())
    }
}
