//! The same test over one process and over a cluster.

/// Makes a test of each body in each mode.
macro_rules! in_both_modes {
    ($($name:ident),* $(,)?) => {
        mod single {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> anyhow::Result<()> {
                super::$name($crate::deployment::Mode::Single).await
            })*
        }
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> anyhow::Result<()> {
                super::$name($crate::deployment::Mode::Cluster).await
            })*
        }
    };
}
pub(crate) use in_both_modes;
