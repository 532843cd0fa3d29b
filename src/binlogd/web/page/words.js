// The page's words in English, which are their own keys, and in 简体中文. What binlogd itself says (alarms, hints,
// errors) stays as it is: those are the words to search for in logs and documentation.

const KEY = "binlogd-language";

const CHINESE = {
  "Skip to the status": "跳到状态",
  "Alarms": "告警",
  "Chain": "复制链路",
  "The last hour": "最近一小时",
  "Stored files": "已存文件",
  "Details": "详情",
  "critical": "严重",
  "warning": "警告",
  "since {}": "始于 {}",
  "{} ago": "{}前",
  "no connection to binlogd since {}": "自 {} 起与 binlogd 失去连接",
  "What is shown below is the last that is known.": "以下是最后已知的状态。",
  "streaming": "正在接收",
  "connecting": "正在连接",
  "backoff": "等待重试",
  "stopped": "已停止",
  "failed": "失败",
  "connected": "已连接",
  "no connection": "无连接",
  "Theme: system": "主题:跟随系统",
  "Theme: light": "主题:浅色",
  "Theme: dark": "主题:深色",
  "up {}": "已运行 {}",
  "source": "源",
  "binlogd": "binlogd",
  "replica": "副本",
  "no source": "没有源",
  "no semi-sync": "非半同步",
  "semi-sync": "半同步",
  "in step": "同步",
  "{} behind": "落后 {}",
  "{} and {} behind": "落后 {},{}",
  "no replicas attached": "没有副本连接",
  "not serving": "未提供服务",
  "serving": "提供服务",
  "{} replicas": "{} 个副本",
  "1 replica": "1 个副本",
  "{} behind, worst first": "{} 个落后,最落后的在前",
  "Close": "关闭",
  "Received": "接收",
  "Sent": "发送",
  "Throughput": "吞吐量",
  "Transactions": "事务",
  "ACK latency": "ACK 延迟",
  "Lag of the replica furthest behind": "最落后副本的延迟",
  "Behind": "落后",
  "median": "中位数",
  "p99": "p99",
  "now {}": "当前 {}",
  "most {}": "最高 {}",
  "no samples yet": "暂无采样",
  "nothing in the last hour": "最近一小时没有数据",
  "now": "现在",
  "Point at the plot, or use ← and → on it, to read a moment.": "将鼠标指向图表,或用 ← → 读取某一时刻。",
  "Timeline {}": "时间线 {}",
  "{} files": "{} 个文件",
  "1 file": "1 个文件",
  "finished": "已完成",
  "newest": "最新",
  "damaged": "已损坏",
  "height: size": "高度:大小",
  "{} files a cell": "每格 {} 个文件",
  "Files": "文件",
  "Size": "大小",
  "First time": "最早时间",
  "Last time": "最晚时间",
  "State": "状态",
  "Name": "名称",
  "GTIDs": "GTID",
  "List these files": "列出这些文件",
  "Earlier": "更早",
  "Later": "更晚",
  "{}–{} of {}": "{}–{},共 {}",
  "Nothing is stored yet.": "尚未存储任何文件。",
  "Published up to": "已发布到",
  "Free on the disk": "磁盘剩余",
  "Stored": "已存",
  "Oldest event": "最早事件",
  "gtid_executed": "gtid_executed",
  "gtid_purged": "gtid_purged",
  "none": "无",
  "Address": "地址",
  "Host": "主机",
  "Server": "服务器",
  "User": "用户",
  "Mode": "方式",
  "Position": "位置",
  "Newest event": "最新事件",
  "Sent bytes": "已发送",
  "Attached": "已连接",
  "Version": "版本",
  "Program": "程序",
  "TLS": "TLS",
  "yes": "是",
  "no": "否",
  "Last error": "最近错误",
  "Reconnects": "重连次数",
  "Received bytes": "已接收",
  "Acknowledged": "已确认",
  "Listener": "监听",
  "Connections": "连接数",
  "Logins refused": "拒绝登录",
};

let memory = null;

export function language() {
  let chosen = memory;
  try {
    chosen = localStorage.getItem(KEY) ?? memory;
  } catch { /* storage is forbidden: the choice lasts as long as the page */ }
  return chosen ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
}

export function switchLanguage() {
  memory = language() === "zh" ? "en" : "zh";
  try {
    localStorage.setItem(KEY, memory);
  } catch { /* kept in memory */ }
}

export function locale() {
  return language() === "zh" ? "zh-CN" : "en-GB";
}

// The word for `key`, with each {} replaced by what follows, in order.
export function word(key, ...values) {
  const text = (language() === "zh" && CHINESE[key]) || key;
  let next = 0;
  return text.replace(/\{\}/g, () => values[next++]);
}
