//! Bringing the reactors' views of a subsystem up to date.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use super::Subsystem;
use crate::nvmf::core_view::{CoreView, SubsystemView};
use crate::reactor::ReactorGone;

impl Subsystem {
    /// Runs `f` for the subsystem's view on every reactor, one after another, and returns what it
    /// returned there. The view is made where there is none.
    pub(super) async fn on_views<R, F>(&self, f: F) -> Result<Vec<R>, ReactorGone>
    where
        R: Send + 'static,
        F: Fn(&SubsystemView) -> R + Clone + Send + 'static,
    {
        let mut results = Vec::with_capacity(self.reactors.len());
        for reactor in self.reactors.iter() {
            let (id, f) = (self.id, f.clone());
            results.push(reactor.call(move |reactor| f(&CoreView::of(reactor).add(id))).await?);
        }
        Ok(results)
    }

    /// Runs the future that `f` makes for the view on every reactor; returns when all have ended.
    pub(super) async fn on_views_until<F, Fut>(&self, f: F)
    where
        F: Fn(Rc<SubsystemView>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let all = self.reactors.iter().map(|reactor| {
            let (id, f) = (self.id, f.clone());
            reactor.spawn(move |reactor| f(CoreView::of(&reactor).add(id)))
        });
        // A reactor that has ended has no view.
        let _ = futures::future::join_all(all).await;
    }

    /// Makes the views.
    ///
    /// # Errors
    /// When a reactor has ended.
    pub(in crate::nvmf) async fn open_views(&self) -> Result<(), ReactorGone> {
        self.on_views(|_| ()).await.map(drop)
    }

    /// Takes every namespace and the views themselves away; returns when nothing is in flight.
    pub(in crate::nvmf) async fn close_views(self: &Arc<Self>) {
        let id = self.id;
        let all = self.reactors.iter().map(|reactor| {
            reactor.spawn(move |reactor| async move {
                let Some(view) = CoreView::of(&reactor).remove(id) else { return };
                for namespace in view.namespaces() {
                    let nsid = namespace.nsid();
                    drop(namespace);
                    view.remove_namespace(nsid).await;
                }
            })
        });
        let _ = futures::future::join_all(all).await;
    }
}
