//! How the model reads and writes the engine's memory.

use super::{DELTA, Model, State};
use crate::nvme::spec::Sqe;

/// Bytes of a memory page.
const PAGE: u64 = 4096;

impl Model {
    /// The process's address of a run of I/O addresses, if all of it is in the arena.
    fn place(&self, state: &mut State, iova: u64, len: usize) -> Option<*mut u8> {
        let at = usize::try_from(iova.wrapping_sub(DELTA)).ok()?;
        let (start, arena) = self.arena;
        let inside = at >= start && at.checked_add(len)? <= start + arena;
        if !inside || !state.bus_master {
            state.seen.strayed += 1;
            return None;
        }
        Some(std::ptr::with_exposed_provenance_mut(at))
    }

    pub(super) fn read(&self, state: &mut State, iova: u64, len: usize) -> Option<Vec<u8>> {
        let from = self.place(state, iova, len)?;
        let mut bytes = vec![0; len];
        // SAFETY: the run is inside the arena, which is mapped; the host writes it no more when it
        // has told the controller of it.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        Some(bytes)
    }

    pub(super) fn write(&self, state: &mut State, iova: u64, bytes: &[u8]) {
        let Some(to) = self.place(state, iova, bytes.len()) else { return };
        // SAFETY: as in `read`: the host has given the memory to the controller.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// The runs of memory that a data pointer names, for `len` bytes of data.
    pub(super) fn runs(
        &self,
        state: &mut State,
        sqe: &Sqe,
        len: usize,
    ) -> Option<Vec<(u64, usize)>> {
        if sqe.psdt() == 0 {
            self.prp_runs(state, sqe, len)
        } else {
            self.sgl_runs(state, sqe, len)
        }
    }

    fn prp_runs(&self, state: &mut State, sqe: &Sqe, len: usize) -> Option<Vec<(u64, usize)>> {
        let bytes: [u8; 16] = zerocopy::IntoBytes::as_bytes(&sqe.dptr).try_into().unwrap();
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
        let (first, second) = (word(&bytes[..8]), word(&bytes[8..]));
        assert_eq!(first % 4, 0, "PRP 1 is not aligned");
        let room = usize::try_from(PAGE - first % PAGE).unwrap();
        let mut runs = vec![(first, room.min(len))];
        let mut left = len - runs[0].1;
        let pages = left.div_ceil(4096);
        let entries = match pages {
            0 => Vec::new(),
            1 => vec![second],
            _ => {
                assert!(second % PAGE + 8 * pages as u64 <= PAGE, "a PRP list crosses a page");
                let list = self.read(state, second, 8 * pages)?;
                list.chunks(8).map(word).collect()
            }
        };
        for entry in entries {
            assert_eq!(entry % PAGE, 0, "a PRP entry with an offset");
            runs.push((entry, left.min(4096)));
            left -= left.min(4096);
        }
        Some(runs)
    }

    fn sgl_runs(&self, state: &mut State, sqe: &Sqe, len: usize) -> Option<Vec<(u64, usize)>> {
        state.seen.sgl += 1;
        assert_eq!(sqe.dptr.identifier, 0x30, "a last segment");
        let length = usize::try_from(sqe.dptr.length.get()).unwrap();
        let list = self.read(state, sqe.dptr.address.get(), length)?;
        let run = |entry: &[u8]| {
            assert_eq!(entry[15], 0, "a data block");
            let address = u64::from_le_bytes(entry[..8].try_into().unwrap());
            let length = u32::from_le_bytes(entry[8..12].try_into().unwrap());
            (address, usize::try_from(length).unwrap())
        };
        let runs: Vec<_> = list.chunks(16).map(run).collect();
        assert_eq!(runs.iter().map(|run| run.1).sum::<usize>(), len, "the SGL has another length");
        Some(runs)
    }

    /// The data that a command sends.
    pub(super) fn fetch(&self, state: &mut State, sqe: &Sqe, len: usize) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        for (iova, len) in self.runs(state, sqe, len)? {
            data.extend(self.read(state, iova, len)?);
        }
        Some(data)
    }

    /// Puts data where a command wants them.
    pub(super) fn deliver(&self, state: &mut State, sqe: &Sqe, mut data: &[u8]) {
        let Some(runs) = self.runs(state, sqe, data.len()) else { return };
        for (iova, len) in runs {
            self.write(state, iova, &data[..len]);
            data = &data[len..];
        }
    }
}
