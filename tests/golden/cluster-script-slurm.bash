#!/bin/bash
#SBATCH --job-name=xmslurm-abcdefgh
#SBATCH --comment="two seeds"
#SBATCH --output="/home/a b/.xmslurm/submit/abcdefgh/slurm-%A_%a.out"
#SBATCH --open-mode=append
#SBATCH --array=0-1%1
#SBATCH --no-requeue
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=60
#SBATCH --gres=gpu:1
#SBATCH --partition=gpu
xm_token=abcdefgh
xm_task_count=2
xm_index_sha256=0000000000000000000000000000000000000000000000000000000000000000
xm_state='/home/a b/.xmslurm'
xm_scheduler=slurm
xm_runtime=bubblewrap
xm_full_check=0
xm_grace_seconds=18
xm_image=sha256:ed444639462ba2b92ead5ed936df379bf0b1878695346b7b77cbed9db19074a5
xm_config=sha256:687677eed168892c31d94e6df15ed241009dfc38d0406e7f86f6b3e08fda2e1d
xm_root_key=bcb61c55738d506969974b497e38e4a990e8badf2525d2d1909dfbd3b7073ea1
xm_code_key=c14e841c93372b7e0654abb2f8c4dec7769d8d820908db9cae7e4c4f1aacb7f5
xm_network=none
xm_gpus=1
xm_secret_names=(
)
xm_input_names=(
)
xm_input_paths=(
)
xm_input_digests=(
)
xm_root_layers=(
    'f26890b5d6154716c5015de5b336e22a325c57ef5115bf132153ae54e725d64b f26890b5d6154716c5015de5b336e22a325c57ef5115bf132153ae54e725d64b gzip -dc'
    '70a87217b16901e4420813b56843a6eb09e7075f2fbaf5f31d25ea1b69bd0336 70a87217b16901e4420813b56843a6eb09e7075f2fbaf5f31d25ea1b69bd0336 gzip -dc'
)
xm_code_layers=(
    '76eeac0bd3d4ac4c7277875920e6e08462eb96031996c2a3ae8c241e6fd97a89 76eeac0bd3d4ac4c7277875920e6e08462eb96031996c2a3ae8c241e6fd97a89 gzip -dc'
)
xm_build_command() {
    xm_command=(
        env
        -i
        PATH=/usr/local/bin:/usr/bin:/bin:"${xm_path}"
        bwrap
        --unshare-all
        --hostname
        xm
        --die-with-parent
        --new-session
        --cap-drop
        ALL
        --ro-bind
        "${xm_root}"
        /
        --ro-bind
        "${xm_code}"
        /xm/code
        --dev
        /dev
        --proc
        /proc
        --tmpfs
        /sys
        --ro-bind
        /sys/devices/system
        /sys/devices/system
        --remount-ro
        /sys
        --bind
        "${xm_tmp}"
        /tmp
        --bind
        "${xm_outputs}"
        /xm/outputs
        --bind
        "${xm_pycache}"
        /xm/pycache
        --bind
        "${xm_private}"
        /xm/pycache/xm/code
        "${xm_more[@]}"
        --json-status-fd
        3
        --chdir
        /xm/code
        env
        -i
        "${xm_env[@]}"
        "${xm_argv[@]}"
    )
}
