//! What can be done to any server that runs as a child, written once for both.

/// Gives a type with a field `server: Managed` the operator's and the fault tests' controls.
macro_rules! controls {
    ($type:ident) => {
        impl $type {
            /// Stops the server in order; after its grace period it is killed. Stopping a stopped one is nothing.
            ///
            /// # Errors
            /// Only where the caller's runtime goes away meanwhile.
            pub async fn stop(&self) -> Result<(), $crate::StackError> {
                self.server.stop().await
            }

            /// Starts the server again on the same port and data, stopping it first where it runs.
            ///
            /// # Errors
            /// As the first start; a port that a stranger took meanwhile is [`StackError::PortTaken`].
            pub async fn restart(&self) -> Result<(), $crate::StackError> {
                self.server.restart().await
            }

            /// `kill -9`: nothing is flushed, nobody is told. Returns when the process is gone.
            ///
            /// # Errors
            /// [`StackError::NotRunning`].
            pub async fn kill9(&self) -> Result<(), $crate::StackError> {
                self.server.kill9().await
            }

            /// Freezes the server with all its processes: connections stay open and nothing answers.
            ///
            /// # Errors
            /// [`StackError::NotRunning`].
            pub fn pause(&self) -> Result<(), $crate::StackError> {
                self.server.pause()
            }

            /// Ends a pause.
            ///
            /// # Errors
            /// [`StackError::NotRunning`].
            pub fn resume(&self) -> Result<(), $crate::StackError> {
                self.server.resume()
            }

            /// Resolves when the running server ends by itself or by a fault of this kind; never where none runs.
            pub async fn died(&self) -> $crate::Died {
                self.server.died().await
            }
        }
    };
}

pub(crate) use controls;
