//! One suite of behaviours in several places.

/// Makes a test of each behaviour in each place. A place is a name and how its cluster is made: `paused` is a future, and the
/// test has a paused clock; `real` is an `Option`, for a server that the environment may name or not.
macro_rules! behaviours {
    ($($place:ident: $kind:ident $cluster:expr),+; $all:tt) => {
        $( behaviours! { @place $place $kind ($cluster) $all } )+
    };
    (@place $place:ident paused ($cluster:expr) { $($module:ident: $($name:ident),+ $(,)?;)+ }) => {
        mod $place {
            use super::*;

            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    let _calm = crate::support::Calm::default();
                    let cluster = $cluster.await;
                    crate::$module::$name(&cluster).await;
                }
            )+)+
        }
    };
    (@place $place:ident real ($cluster:expr) { $($module:ident: $($name:ident),+ $(,)?;)+ }) => {
        mod $place {
            use super::*;

            $($(
                #[tokio::test]
                async fn $name() {
                    let _calm = crate::support::Calm::default();
                    if let Some(cluster) = $cluster {
                        crate::$module::$name(&cluster).await;
                    }
                }
            )+)+
        }
    };
}
