"""What the embedded broker is told: one node, loopback, few partitions of its own, quick to notice and to start."""

from __future__ import annotations

from typing import Final

from diurna_deploy.stack.ports import LOOPBACK

LOGGING: Final = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
logger.kafka.name = kafka
logger.kafka.level = info
logger.apache.name = org.apache.kafka
logger.apache.level = info
# these two tell every setting again, which is half of all lines
logger.config.name = org.apache.kafka.common.config.AbstractConfig
logger.config.level = warn
logger.server.name = kafka.server.KafkaConfig
logger.server.level = warn
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ../logs/kafka.log
appender.file.filePattern = ../logs/kafka.%i.log
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1} %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""

_FIXED: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # after kill -9 the controller waits this long for the dead broker; 9 s by default (KAFKA-19130)
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    # a topic that says nothing is kept for ever: the log is the truth
    "log.retention.ms": "-1",
    "message.max.bytes": str(1024 * 1024),
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}


def server_properties(ports: dict[str, int], *, data: str) -> str:
    """The properties file. `data` is relative to the broker's working directory: a comma in a path would split it."""
    broker, controller = f"{LOOPBACK}:{ports['broker']}", f"{LOOPBACK}:{ports['controller']}"
    placed = {
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "controller.quorum.bootstrap.servers": controller,
        "log.dirs": data,
    }
    return "".join(f"{name}={value}\n" for name, value in (_FIXED | placed).items())
